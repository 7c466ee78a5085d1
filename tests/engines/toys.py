"""Small backbones with all that InceptionV3 has, and chains of single layers."""

import keras
import numpy as np

SIZE = 23


def conv(x, filters, size, *, strides=1, padding="same", name=None):
    x = keras.layers.Conv2D(filters, size, strides=strides, padding=padding, use_bias=False, name=name)(x)
    x = keras.layers.BatchNormalization(scale=False)(x)
    return keras.layers.Activation("relu")(x)


def randomise(model, seed=0):
    """Statistics that a fold cannot get right by chance."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = {v.path.split("/")[-1]: rng.normal(0, 0.2, v.shape) for v in layer.weights}
            values["moving_variance"] = rng.uniform(0.5, 2, layer.moving_variance.shape)
            layer.set_weights([values[v.path.split("/")[-1]] for v in layer.weights])
    model.trainable = False
    return model


def build_toy(feature_layers=("mixed_a", "mixed_b"), size=SIZE):
    """InceptionV3 in small: a VALID stem, a block of four branches, a block that halves."""
    images = keras.Input((size, size, 3))
    x = conv(images, 4, 3, strides=2, padding="valid")
    x = conv(x, 5, 3, padding="valid")
    x = conv(x, 6, (3, 3))
    pooled = keras.layers.AveragePooling2D((3, 3), strides=(1, 1), padding="same", name="pool")(x)
    branches = [
        conv(x, 3, 1, name="one"),
        conv(conv(x, 4, 1, name="two"), 5, (1, 7)),
        conv(conv(x, 2, 1), 4, (5, 5)),
        conv(pooled, 3, 1, name="behind_pool"),
    ]
    x = keras.layers.Concatenate(name="mixed_a")(branches)
    halves = [
        conv(x, 4, 3, strides=2, padding="valid"),
        keras.layers.MaxPooling2D((3, 3), strides=(2, 2))(x),
    ]
    x = keras.layers.Concatenate(axis=3, name="mixed_b")(halves)
    app = keras.Model(images, conv(x, 7, 3, name="above_the_feature_layers"))
    return randomise(build_backbone(app, feature_layers))


def build_backbone(app, feature_layers):
    pooled = [
        keras.layers.GlobalAveragePooling2D()(app.get_layer(feature_layer).output)
        for feature_layer in feature_layers
    ]
    features = pooled[0] if len(pooled) == 1 else keras.layers.Concatenate()(pooled)
    backbone = keras.Model(app.input, features, name="backbone")
    backbone.trainable = False
    return backbone


def build_chain(*layers, size=9, trainable=False):
    """A chain of layers, pooled."""
    x = images = keras.Input((size, size, 3))
    for layer in layers:
        x = layer(x)
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    model.trainable = trainable
    return model


def build_fork(before, *users, size=9):
    """A layer whose value goes to several others, side by side and pooled."""
    images = keras.Input((size, size, 3))
    x = before(images)
    joined = keras.layers.Concatenate(name="join")([x if user is None else user(x) for user in users])
    return build_backbone(keras.Model(images, joined), ["join"])


# What a program must get right beyond InceptionV3, as `build_chain` takes it.
CHAINS = {
    "average pooling before a large kernel": lambda: [
        keras.layers.AveragePooling2D(3, strides=2, padding="same"),
        keras.layers.Conv2D(4, 3),
    ],
    "average pooling without padding before a 1x1 convolution": lambda: [
        keras.layers.AveragePooling2D((1, 3), strides=1),
        keras.layers.Conv2D(4, 1, bias_initializer="ones"),
    ],
    "max pooling of negative values with padding": lambda: [
        keras.layers.Conv2D(4, 1, bias_initializer=keras.initializers.Constant(-9)),
        keras.layers.MaxPooling2D(3, strides=2, padding="same"),
    ],
    "a strided 1x1 convolution": lambda: [keras.layers.Conv2D(4, 1, strides=2)],
    "an even image with a strided convolution": lambda: [
        keras.layers.Conv2D(4, 2),
        keras.layers.Conv2D(4, 3, strides=2, padding="same"),
    ],
    "biases, scales and two BatchNorms": lambda: [
        keras.layers.Conv2D(4, 3, padding="same", bias_initializer=keras.initializers.RandomNormal(seed=1)),
        keras.layers.BatchNormalization(),
        keras.layers.BatchNormalization(center=False),
        keras.layers.Conv2D(
            4, 3, activation="relu", bias_initializer=keras.initializers.RandomNormal(seed=2)
        ),
    ],
}


def draw_images(n, size=SIZE):
    return np.random.default_rng(1).uniform(-1, 1, (n, size, size, 3)).astype("float32")


def to_deviation(features, backbone, images):
    """Largest deviation from Keras over Keras' largest feature."""
    stock = np.asarray(keras.ops.convert_to_numpy(backbone(images, training=False)))
    assert features.shape == stock.shape
    return np.abs(features - stock).max() / np.abs(stock).max()
