"""The block "Decorator API" of the seed page, as written, and one line that shows what came of it."""

from dremioframe.orchestration import task, Pipeline

@task(name="extract", retries=3)
def extract():
    return [1, 2, 3]

@task(name="transform")
def transform(context=None):
    data = context.get("extract")
    return [x * 2 for x in data]

t_extract = extract()
t_transform = transform()
t_extract.set_downstream(t_transform)

pipeline = Pipeline("etl")
pipeline.add_task(t_extract).add_task(t_transform)
pipeline.run()

print(pipeline.last_run["transform"])
