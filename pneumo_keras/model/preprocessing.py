"""From films to what the backbone sees."""

import keras


def build_resizing(image_size: int) -> keras.Model:
    """Grey films (n, height, width, 1) of any size -> (n, image_size, image_size, 1), bilinear.

    Antialiased, so that large films are averaged and not sampled when they shrink. An operation and
    not Keras' layer `Resizing`, which switches Dropout on where a model is called without `training`.
    """
    films = keras.Input((None, None, 1))
    resized = keras.ops.image.resize(
        films, (image_size, image_size), interpolation="bilinear", antialias=True
    )
    return keras.Model(films, resized, name="resize")


def build_scaling(image_size: int) -> keras.Model:
    """Grey images (n, size, size, 1), 0..255 -> what the backbone sees: three channels, [-1, 1]."""
    grey = keras.Input((image_size, image_size, 1))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(grey)
    return keras.Model(grey, keras.layers.Concatenate()([scaled] * 3), name="scale")
