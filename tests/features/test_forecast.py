from pneumo_keras.features.forecast import Forecast

from pneumo_keras.features import forecast


def count(monkeypatch, caplog, passages, seconds_each):
    clock = iter(range(0, 10_000, seconds_each))
    monkeypatch.setattr(forecast.time, "monotonic", lambda: float(next(clock)))
    caplog.clear()
    with caplog.at_level("INFO", "pneumo_keras"):
        one = Forecast()
        one.expect(passages)
        for _ in range(5):
            one.advance(32)
    return caplog.messages


def test_a_long_job_says_once_how_long_it_will_take(monkeypatch, caplog):
    assert count(monkeypatch, caplog, 52_944, 4) == [
        "To pass the network: 52,944 images, each view counted",
        "The network takes 8.0 images/s: about 1:50:02 for all that are left",
    ]


def test_a_short_job_says_how_many_images_there_are(monkeypatch, caplog):
    assert count(monkeypatch, caplog, 200, 4) == ["To pass the network: 200 images, each view counted"]


def test_what_comes_from_the_cache_needs_no_words(monkeypatch, caplog):
    assert count(monkeypatch, caplog, 0, 4) == []
