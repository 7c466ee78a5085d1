"""Notes of processes that are threads of one."""

import threading


class Board:
    """Notes as `pneumo_keras.distributed.key_value_store.Notes` keeps them."""

    def __init__(self):
        self.notes, self.changed = {}, threading.Condition()

    def write(self, key, data):
        with self.changed:
            assert key not in self.notes
            self.notes[key] = data
            self.changed.notify_all()

    def read(self, key, seconds):
        with self.changed:
            self.changed.wait_for(lambda: key in self.notes, seconds)
            return self.notes.get(key)

    def add(self, key, note):
        with self.changed:
            self.notes.setdefault(key, note)

    def find(self, key):
        with self.changed:
            return self.notes.get(key, {})
