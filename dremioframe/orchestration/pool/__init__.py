"""The process pool: runs opaque calls in forked workers and says exactly what became of each of them.

It knows nothing of tasks and graphs; it could be a library of its own. Bottom up::

    frames, window                  pure: the packets' format; how many calls may wait at a worker
    channel, status_page, ring      one socket end; one shared page; the outcomes in it
    kinship, termination, cpu,      what the operating system is asked for
    interpreter, descriptors
    changes, streams, settings,     what runs in worker processes
    hygiene, ports, worker
    boot, preload, birth, zygote    and in their fork server
    zygote_client, worker_handle    the same two as the coordinator sees them
    nursery, starts                 starting them, and how that has been going
    shares, capacity                who may have how many workers
    floor, dispatch, intake, desk,  the parts of one run's use of them ...
    deadlines, silence, stopping,
    lifecycle
    supervisor, process_pool        ... put together, and the public face

Start reading at ``supervisor`` (the coordinator's side) and ``zygote`` (the processes' side).
"""
