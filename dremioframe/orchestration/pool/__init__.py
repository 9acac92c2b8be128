"""The process pool: runs opaque calls in forked workers and says exactly what became of each of them.

It knows nothing of tasks and graphs; it could be a library of its own. Bottom up::

    frames, window                  pure: the packets' format; how many calls may wait at a worker
    channel, status_page            one socket end; one shared page
    kinship, termination, cpu,      what the operating system is asked for
    interpreter, descriptors
    hygiene, ports, worker, zygote  what runs in worker processes and in their fork server
    zygote_client, worker_handle    the same two as the coordinator sees them
    capacity, process_pool          who may have how many workers
    supervisor, lifecycle, stopping one run's loop over the workers it has leased

Start reading at ``supervisor`` (the coordinator's side) and ``zygote`` (the processes' side).
"""
