"""A network like the frozen backbone, small enough for every test."""

import keras

from pneumo_keras.model.backbone import join_feature_layers

SIZE = 16


def build_toy_backbone(weights="none", *, image_size=SIZE, feature_layers=("mixed10",)):
    """Images (n, size, size, 3) -> features (n, 6 * feature layers), with BatchNorm as in InceptionV3."""
    images = keras.Input((image_size, image_size, 3))
    x = images
    pooled = {}
    for index, name in enumerate(("mixed4", "mixed10")):
        initializer = keras.initializers.GlorotUniform(seed=index)
        x = keras.layers.Conv2D(
            6, 3, strides=2, padding="same", use_bias=False, kernel_initializer=initializer
        )(x)
        x = keras.layers.BatchNormalization(scale=False, name=f"{name}_norm")(x)
        x = keras.layers.Activation("relu", name=name)(x)
        pooled[name] = keras.layers.GlobalAveragePooling2D(name=f"{name}_pooled")(x)
    return join_feature_layers(images, [pooled[feature_layer] for feature_layer in feature_layers])


def build_branched_backbone(weights="none", *, image_size=SIZE, feature_layers=("mixed10",)):
    """The same with a stem and blocks of two branches each, as InceptionV3's: it can be cut between them."""
    seeds = iter(range(100))

    def conv(x, filters, size, strides=1):
        initializer = keras.initializers.GlorotUniform(seed=next(seeds))
        x = keras.layers.Conv2D(
            filters, size, strides=strides, padding="same", use_bias=False, kernel_initializer=initializer
        )(x)
        x = keras.layers.BatchNormalization(scale=False)(x)
        return keras.layers.Activation("relu")(x)

    images = keras.Input((image_size, image_size, 3))
    x = keras.layers.MaxPooling2D(2)(conv(images, 4, 3, strides=2))
    pooled = {}
    for name in ("mixed0", "mixed4", "mixed10"):
        x = keras.layers.Concatenate(name=name)([conv(x, 3, 1), conv(conv(x, 2, 1), 4, 3)])
        pooled[name] = keras.layers.GlobalAveragePooling2D(name=f"{name}_pooled")(x)
    return join_feature_layers(images, [pooled[feature_layer] for feature_layer in feature_layers])
