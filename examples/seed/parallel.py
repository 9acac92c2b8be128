"""The block "Parallel Execution" of the seed page: four tasks that wait for each other can only end together."""

import threading

from dremioframe.orchestration import Pipeline, task

# The seed page's line:
pipeline = Pipeline("parallel_etl", max_workers=4)

all_four = threading.Barrier(4, timeout=30)


@task
def extract(source):
    all_four.wait()
    return source


for number in range(4):
    pipeline.add_task(extract.with_options(name=f"extract_{number}")(number))
run = pipeline.run()
print(run.status, sorted(run.values()))
