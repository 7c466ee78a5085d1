"""Seeded damage: to bytes of any kind, and to zip, JSON, TOML, CSV and HDF5 by their own structure."""

import copy
import io
import json
import warnings
import zipfile

import h5py

ODD_NUMBERS = ("0", "-1", "1e999", "nan", "inf", "1" * 5000, "10000000000000", "0.1", "1_0", "0x10", "true")
ODD_TEXTS = (
    "",
    "x",
    "../../x",
    "/etc/passwd",
    "\x1b[31m",
    "$\\frac$",
    "<script>",
    "\u202e",
    "x" * 5000,
    "{0.__class__}",
    "{threshold.__class__.__mro__}",
    "a\nb",
    "\ud800",
)
ODD_VALUES = (
    *(None, True, False, 0, 1, -1, 2, 0.5, 1e308, -0.0, 10**30, 10**400, float("nan"), float("inf"), [], {}),
    *([[[]]], {"a": {}}, [1, 2], *ODD_TEXTS),
)


def damage_bytes(data, random):
    """The same bytes with a few bits flipped, cut short, or with blocks moved, doubled, lost or blanked."""
    data = bytearray(data)
    if not data:
        return bytes(data)
    start, length = random.randrange(len(data)), random.randrange(1, 200)
    kind = random.randrange(7)
    if kind == 0:
        for _ in range(random.randrange(1, 9)):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif kind == 1:
        del data[start:]
    elif kind == 2:
        data[start:start] = random.randbytes(length)
    elif kind == 3:
        del data[start : start + length]
    elif kind == 4:
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif kind == 5:
        data += data[start : start + length]
    else:
        other = random.randrange(len(data))
        block, data[start : start + length] = data[start : start + length], data[other : other + length]
        data[other : other + length] = block
    return bytes(data)


def damage_zip(data, random, damage_member):
    """An archive that zipfile takes, with members changed, renamed, doubled, lost, added or packed anew."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [[name, archive.read(name)] for name in archive.namelist()]
    kind, one = random.randrange(8), random.choice(members)
    packing = zipfile.ZIP_STORED
    if kind <= 3:
        one[1] = damage_member(one[0], one[1], random)
    elif kind == 4:
        one[0] = random.choice([f"../{one[0]}", f"/tmp/{one[0]}", one[0].upper(), f"x/{one[0]}", "x" * 300])
    elif kind == 5:
        members.append([random.choice([one[0], "extra", "assets/x", "../../evil"]), random.randbytes(50)])
    elif kind == 6:
        members.remove(one)
    else:
        packing = random.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", packing) as archive:
        warnings.filterwarnings("ignore", message="Duplicate name", category=UserWarning)
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    return buffer.getvalue()


def damage_npy(name, data, random):
    """An array with another header, or other numbers."""
    del name
    shape = random.choice(
        ["(10000000000, 28, 28)", "(-1, 28, 28)", "()", "(3,)", "(True, 28, 28)", "(" * 500, "(2, 2**70)"]
    )
    kind = random.choice(
        ["'|u1'", "'|O'", "'<f8'", "'<U99999999'", "'|V1000000000'", "[('a','|O')]", "None", "1"]
    )
    if random.random() < 0.5:
        return damage_bytes(data, random)
    shape_at, order = data.find(b"'shape': ("), random.choice(["True", "False", "2"])
    text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}"
    if random.random() < 0.5 and shape_at > 0:  # only the shape
        text = data[10 : shape_at + 9].decode("latin-1") + shape + ", }"
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data[128:]


def damage_json(text, random):
    """A document with one value or key changed; damaged as bytes now and then."""
    if random.random() < 0.2:
        return damage_bytes(text.encode(), random)
    tree = json.loads(text)
    entries = list(_list_entries(tree))
    holder, key = random.choice(entries)
    kind = random.randrange(5)
    if kind <= 1:
        holder[key] = copy.deepcopy(random.choice(ODD_VALUES))
    elif kind == 2 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = random.choice(
            [holder[key] + 1, -holder[key], holder[key] * (1 + 1e-6), holder[key] * 1e6]
        )
    elif kind == 3:
        del holder[key]
    elif isinstance(holder, dict):
        holder[random.choice(ODD_TEXTS)] = holder.pop(key) if random.random() < 0.5 else 1
    else:
        holder.append(copy.deepcopy(holder[key]))
    try:
        written = json.dumps(tree).encode()
    except ValueError:  # a number that JSON cannot have
        return b"{" * 100_000
    return written.replace(b"}", b', "x": 1, "x": 2}', 1) if random.random() < 0.05 else written


def _list_entries(tree):
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _list_entries(tree[key])


def damage_toml(text, random):
    """Settings with a line changed, doubled, lost or moved to another table."""
    if random.random() < 0.2:
        return damage_bytes(text.encode(), random)
    lines = text.splitlines()
    settings = [index for index, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    index = random.choice(settings)
    key, _, value = lines[index].partition("=")
    odd = random.choice([*ODD_NUMBERS, *(json.dumps(one) for one in ODD_TEXTS)])
    changed = {
        0: f"{key}= {odd}",
        1: f"{key}= {random.choice(['[', '{', '[1, 2]', '{a = 1}', '[[1]]', '1979-05-27', '07:32:00'])}",
        2: f"{key}= {'[' * random.choice([10, 3000])}",
        3: f"{random.choice(['x', 'a.' * 3000 + 'a', 'data.path', '__class__'])} = {value}",
        4: f"{key}={value} # \x00" if random.random() < 0.3 else f"{key}={value}0",
        5: f"[{random.choice(['data', 'model', 'x', 'a.' * 2000 + 'a', ''])}]",
        6: "",
        7: lines[index] + "\n" + lines[random.choice(settings)],
        8: f"{random.choice(['data', 'model', 'training', 'seed'])} = {odd}",
    }
    lines[index] = changed[random.randrange(len(changed))]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def damage_csv(text, random):
    """A table with a cell, a line or a line end changed."""
    if random.random() < 0.2:
        return damage_bytes(text.encode(), random)
    lines = text.split("\n")[:-1]
    row = random.randrange(1, len(lines))
    cells = lines[row].split(",")
    column, kind = random.randrange(len(cells)), random.randrange(8)
    if kind <= 2:
        cell = cells[column]
        odd = [
            f" {cell}",
            f"+{cell}",
            f"{cell}_0",
            f'"{cell}"',
            cell + "0",
            "٣",
            f"{cell}e0",
            f"-{cell}",
            "\x00",
        ]
        cells[column] = random.choice([*odd, *ODD_NUMBERS])
        lines[row] = ",".join(cells)
    elif kind == 3:
        label = len(cells) - 2
        cells[label] = {"0": "1", "1": "0"}.get(cells[label], "0")
        lines[row] = ",".join(cells)
    elif kind == 4:
        other = random.randrange(1, len(lines))
        first, second = lines[row].split(","), lines[other].split(",")
        first[-1], second[-1] = second[-1], first[-1]
        lines[row], lines[other] = ",".join(first), ",".join(second)
    elif kind == 5:
        del lines[row]
    elif kind == 6:
        lines.insert(row, lines[row])
    else:
        joined = random.choice(["\r\n", "\r", "\u2028", "\n\n"]).join(lines)
        return (random.choice(["\ufeff", "", "\n"]) + joined + random.choice(["\n", "", "\n\n"])).encode()
    return ("\n".join(lines) + "\n").encode()


def damage_weights(data, random):
    """Weights that HDF5 takes, with other numbers, other shapes, or links to elsewhere."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        arrays = []
        file.visititems(lambda name, one: arrays.append(name) if isinstance(one, h5py.Dataset) else None)
        name = random.choice(arrays)
        value = file[name][()]
        kind = random.randrange(9)
        if kind <= 2 and file[name].dtype.kind == "f" and value.size:
            value.flat[random.randrange(value.size)] = random.choice(
                [float("nan"), float("inf"), 1e30, 0.123]
            )
            file[name][...] = value
            return _close(file, buffer)
        del file[name]
        if kind == 3:
            file[name] = h5py.ExternalLink("/etc/hostname", "/x")
        elif kind == 4:
            file[name] = h5py.SoftLink(random.choice(["/nowhere", f"/{random.choice(arrays)}"]))
        elif kind == 5:
            size = max(value.nbytes, 1)
            file.create_dataset(name, value.shape, value.dtype, external=[("/etc/passwd", 0, size)])
        elif kind == 6:
            layout = h5py.VirtualLayout(value.shape, value.dtype)
            if value.ndim:
                layout[...] = h5py.VirtualSource("/tmp/other.h5", "x", value.shape)
            file.create_virtual_dataset(name, layout)
        elif kind == 7:
            file.create_dataset(name, (2**20, 2**20), "f4", chunks=(1, 1024), fillvalue=1.0)
        elif kind == 8:
            file[name] = value.astype(random.choice(["f8", "i4", "f2"]))
        return _close(file, buffer)


def _close(file, buffer):
    file.close()
    return buffer.getvalue()


def damage_model_member(name, data, random):
    """A member of a model file."""
    if random.random() < 0.2:
        return damage_bytes(data, random)
    if name.endswith(".h5"):
        return damage_weights(data, random)
    return (
        damage_config(data.decode(), random) if name == "config.json" else damage_json(data.decode(), random)
    )


def damage_config(text, random):
    """A description of layers with one of them changed into something else."""
    swaps = [
        ('"relu"', '"tanh"'),
        ('"sigmoid"', '"linear"'),
        ('"class_name": "Activation"', '"class_name": "Lambda"'),
        ('"module": "keras.layers"', '"module": "os"'),
        ('"class_name": "Functional"', '"class_name": "Sequential"'),
        ('"keras.src.ops.numpy", "class_name": "Clip"', '"builtins", "class_name": "eval"'),
        ('"name": "head"', '"name": "tail"'),
        ('"scale": ', '"scale": 2'),
        ('"offset": ', '"offset": 3'),
        ('"registered_name": null', '"registered_name": "my>Layer"'),
        ('"antialias": true', '"antialias": false'),
        ('"epsilon": 0.001', '"epsilon": 10.0'),
        ('"filters": 6', '"filters": 600000000'),
        ('"strides": [2, 2]', '"strides": [1, 1]'),
        ('"padding": "same"', '"padding": "valid"'),
    ]
    if random.random() < 0.5:
        return damage_json(text, random)
    old, new = random.choice([swap for swap in swaps if swap[0] in text])
    return text.replace(old, new, 1 if random.random() < 0.7 else -1).encode()
