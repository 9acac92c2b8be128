"""An outcome that keeps its worker busy after it has been sent, when its parts are dropped.

A module, so that the class is in no cycle with the call's globals: it would wait for a collection.
"""

from __future__ import annotations

import os
import time


class Lingering(bytes):
    """Says that it lingers by making a file, and does so until it finds another."""

    def __new__(cls, payload, told, until, pause_s):
        self = super().__new__(cls, payload)
        self.told, self.until, self.pause_s = told, until, pause_s
        return self

    def __del__(self):
        with open(self.told, "w"):
            pass
        while not os.path.exists(self.until):
            if self.pause_s:
                time.sleep(self.pause_s)
