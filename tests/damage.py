"""Files that were damaged: by a disk, by a hand, by a copy that was cut off."""


def mutate(file, lot):
    """Changes a file in one of the ways that files are damaged in; never to what it was.

    Args:
        file: An ordinary one that is not empty.
        lot: Decides how.
    """
    content = bytearray(file.read_bytes())
    before, at = bytes(content), int(lot.integers(len(content)))
    match lot.integers(8):
        case 0 | 1:  # one bit
            content[at] ^= 1 << int(lot.integers(8))
        case 2:  # some bytes
            content[at : at + 64] = lot.bytes(len(content[at : at + 64]))
        case 3:  # a page of zeros
            content[at : at + 4096] = bytes(len(content[at : at + 4096]))
        case 4:  # the end
            content = content[:at]
        case 5:  # more than there was
            content += lot.bytes(int(lot.integers(1, 100)))
        case 6:  # all of it
            content = bytearray(lot.bytes(len(content)))
        case 7:  # a part that goes to another place
            content = content[at:] + content[:at]
    if bytes(content) == before:
        content[at] ^= 1
    file.write_bytes(content)
