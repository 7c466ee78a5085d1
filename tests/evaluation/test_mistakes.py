import numpy as np

from pneumo_keras.evaluation.mistakes import find_mistakes


def test_the_most_confident_mistakes_come_first():
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1], dtype=np.int64)
    scores = np.array([0.4, 0.9, 0.1, 0.5, 0.6, 0.99, 0.2, 0.5, 0.1])
    missed, alarms = find_mistakes(labels, scores, 0.5, limit=3)
    assert missed.tolist() == [2, 8, 0]  # ties in the order of the images; 3 is the fourth
    assert alarms.tolist() == [5, 4]  # a score on the threshold is called normal
