"""One run as a state machine: events in, commands out.

Pure: no clock, no randomness, no input or output, no threads, no logging; time and random numbers come inside events.
The engine is the only caller in production, ``testing`` the other one.
"""
