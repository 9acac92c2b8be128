"""The block "Scheduling" of the seed page. It runs until it is stopped with Ctrl-C."""

from dremioframe.orchestration import Pipeline, Task, schedule_pipeline


def refresh():
    print("refreshed", flush=True)


pipeline = Pipeline("etl").add_task(Task("refresh", refresh))

# The seed page's lines:

# Run every 60 seconds
schedule_pipeline(pipeline, interval_seconds=60)
