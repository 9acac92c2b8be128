"""How long a thread that waits may sleep at a time, whatever it waits for.

A signal that comes just before the sleep, or that the kernel gives to another thread, ends no sleep; its handler runs
when the main thread looks up. So everything that a main thread may wait in looks up this often.

What lives here: that number. What may not: waiting.
"""

LOOK_UP_S = 0.5
