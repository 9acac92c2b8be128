"""Scripts of the Makefile, and the chaos tests that they share with the suite."""
