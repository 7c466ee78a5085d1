"""From images to what the backbone sees."""

import keras


def build_resizing(data_size: int, image_size: int) -> keras.Model:
    """Grey images (n, height, width, 1), 0..255, of any size -> (n, image_size, image_size, 1).

    First to the size of the images that the classifier was trained on, so that it never sees more of an image
    than it saw of those; then to the size of the network's images. Both bilinear, as PneumoniaMNIST was made,
    and antialiased, so that large images are averaged and not sampled when they shrink.
    Operations and not Keras' layer `Resizing`, which switches Dropout on where a model is called without
    `training`.

    Args:
        data_size: Height and width of the training images in pixels.
        image_size: Height and width of the network's images in pixels.
    """
    images = resized = keras.Input((None, None, 1))
    resize = keras.ops.image.resize
    for size in (data_size, image_size):
        resized = resize(resized, (size, size), interpolation="bilinear", antialias=True)
    return keras.Model(images, resized, name="resize")


def build_scaling(image_size: int) -> keras.Model:
    """Grey images (n, size, size, 1), 0..255 -> what the backbone sees: three channels, [-1, 1]."""
    grey = keras.Input((image_size, image_size, 1))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(grey)
    return keras.Model(grey, keras.layers.Concatenate()([scaled] * 3), name="scale")
