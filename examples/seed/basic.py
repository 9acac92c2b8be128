"""The block "Basic Example" of the seed page, as written."""

from dremioframe.orchestration import Task, Pipeline

def step_1():
    print("Step 1")

def step_2():
    print("Step 2")

t1 = Task("step_1", step_1)
t2 = Task("step_2", step_2)
t1.set_downstream(t2)

pipeline = Pipeline("my_pipeline")
pipeline.add_task(t1).add_task(t2)
pipeline.run()
