"""Seeds from seeds: independent ones for every random part of a run."""

import numpy as np


def derive_seeds(*key: int, count: int) -> list[int]:
    """Independent seeds from a key such as (seed, member).

    Below 2**31, since Keras on torch keeps seeds in int32.
    """
    return (np.random.SeedSequence(key).generate_state(count) >> 1).tolist()
