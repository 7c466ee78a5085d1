"""Small classifiers with all that a saved one can have."""

import keras
import numpy as np

from pneumo_keras.model.classifier import Classifier, build_frozen_part
from pneumo_keras.model.head import build_decision, build_head
from tests.toy import build_toy_backbone

DATA_SIZE = 28
# Of images: as in training, larger and higher than wide, smaller and wider than high, a single pixel.
SIZES = [(28, 28), (93, 41), (17, 26), (1, 1)]


def build_classifier(
    *, members=1, outputs=1, hidden_units=0, standardise=True, flip_average=False, data_size=DATA_SIZE
):
    """With weights that no fold gets right by chance."""
    frozen = build_frozen_part(build_toy_backbone(feature_layers=("mixed4", "mixed10")), data_size=data_size)
    images = frozen.scale(frozen.resize(draw_images(data_size, data_size, 8)))
    features = keras.ops.convert_to_numpy(frozen.backbone(images))
    head = build_random_head(
        features.shape[1],
        moments=(features.mean(axis=0), features.var(axis=0)) if standardise else None,
        members=members,
        outputs=outputs,
        hidden_units=hidden_units,
    )
    return Classifier(frozen, head, build_decision(slope=0.7, intercept=0.3), flip_average=flip_average)


def build_random_head(d, *, moments, members, outputs, hidden_units):
    settings = {"hidden_units": hidden_units, "dropout": 0.5, "outputs": outputs}
    head = build_head(d, moments=moments, seeds=range(members), **settings)
    rng = np.random.default_rng(5)
    for variable in head.trainable_variables:  # kernels (members, inputs, outputs), biases (members, outputs)
        inputs = variable.shape[1] if len(variable.shape) == 3 else 1
        variable.assign(rng.normal(0, 1.5 / np.sqrt(inputs), variable.shape))
    return head


def draw_images(height, width, n=3):
    """Noise, which asks most of a resizing, each image darker than the one before."""
    noise = np.random.default_rng(1).uniform(0, 255, (n, height, width, 1))
    return (noise * np.linspace(1, 0.2, n)[:, None, None, None]).astype(np.float32)


def score(classifier, images):
    """By Keras, through the model that is saved."""
    return np.asarray(keras.ops.convert_to_numpy(classifier.join()(images)))


def to_difference(scoring, classifier, images):
    """Largest difference of a probability from Keras'."""
    return np.abs(scoring(images) - score(classifier, images)).max()
