"""The block "Branching & Trigger Rules" of the seed page; its `process` fails here, so that the alert has work."""

from dremioframe.orchestration import Pipeline, task

@task(name="process_data")
def process():
    # ...
    raise RuntimeError("the source is empty")

@task(name="send_alert", trigger_rule="one_failed")
def alert():
    print("Something went wrong!")

t_proc = process()
t_alert = alert()

t_proc.set_downstream(t_alert)

run = Pipeline("branching").add_task(t_proc).add_task(t_alert).run()
print(t_proc.status.value, t_alert.status.value)
