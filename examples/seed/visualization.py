"""The block "Visualization" of the seed page; the chart is saved in the current folder."""

from dremioframe.orchestration import Pipeline, Task

extract = Task("extract", list)
transform = Task("transform", list)
extract.set_downstream(transform)
pipeline = Pipeline("etl").add_task(extract).add_task(transform)

# The seed page's lines:
print(pipeline.visualize())
# or save to file
pipeline.visualize("pipeline.mermaid")
