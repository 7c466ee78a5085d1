from pneumo_keras.runtime.seeds import derive_seeds


def test_seeds_repeat_differ_and_fit_into_int32():
    first = derive_seeds(1, 2, count=500)
    assert first == derive_seeds(1, 2, count=500)
    assert first[:10] != derive_seeds(2, 1, count=10)
    assert len(set(first)) == 500
    assert min(first) >= 0
    assert max(first) < 2**31
