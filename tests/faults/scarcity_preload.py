"""Arms :mod:`scarcity` in the fork server that preloads this."""

import scarcity

scarcity.arm_as_said()
