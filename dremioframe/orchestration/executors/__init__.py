"""Ways to run attempts: in this thread, in threads, in processes. They do not know each other, nor the engine."""
