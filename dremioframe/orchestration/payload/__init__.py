"""Objects to bytes and back, between processes that trust each other.

::

    failure       an exception as data                        segments   bytes in memory that processes share
    exceptions    an exception as bytes
    codec         a value as bytes
    references    code: by name, by token or by value
    by_value      (the only part that loads cloudpickle)
    rebuild       a function that came by value, made again
    tokens        which class or function of one process is which of another
    twins         functions with state, of which each value has its own
    namespaces    the globals of code that came by value
    versions      classes made in workers, and changed there by other tasks
    initial       what an initializer has set in them and on classes
    identity      a table of objects that cannot be keys
    importable    what another process would import from the same file
    reducers, diagnosis, traceback_text
    weight        which variable makes a piece of code heavy
    store         how much memory and how many descriptors the segments of a pool may take
    portable      errors as records that any process can read
    guard         what comes out of an object that was only looked at

What lives here: pickling, and memory to put the pickles in. What may not: processes, channels, tasks.
"""
