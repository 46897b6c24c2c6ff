"""A reader and a writer for safetensors files, in the subset these examples use.

Layout of a file: u64 little-endian header size, JSON header, tensor bytes.
The header is padded with spaces to a multiple of 8, so tensor bytes start
8-byte aligned.  Keys and tensors are sorted by name: equal input, equal file.
Tensors whose bytes are no multiple of 4 come after all others, which stay aligned.
"""

import json
import struct

import numpy as np
import torch

_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.uint8: "U8"}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}


def _to_bytes(tensor):
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:  # numpy has no bfloat16: take the bits
        tensor = tensor.view(torch.int16)
    array = tensor.numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _ragged(tensor):
    return tensor.numel() * tensor.element_size() % 4 != 0


def save(path, tensors, metadata=None):
    """Write {name: tensor}; `metadata` is a dict of string to string."""
    header, blobs, offset = {}, [], 0
    if metadata:
        header["__metadata__"] = metadata
    for name in sorted(tensors, key=lambda name: (_ragged(tensors[name]), name)):
        tensor = tensors[name]
        blob = _to_bytes(tensor)
        assert offset % tensor.element_size() == 0, f"{name} would be misaligned"
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for blob in blobs:
            f.write(blob)


def load(path):
    """Return ({name: tensor}, metadata)."""
    with open(path, "rb") as f:
        data = f.read()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    body = memoryview(data)[8 + size :]
    tensors, covered = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        dtype = _TYPES[entry["dtype"]]
        if begin != covered:
            raise ValueError(f"{path}: gap or overlap before {name}")
        covered = end
        bits = {torch.float32: "<f4", torch.bfloat16: "<i2", torch.uint8: "u1"}[dtype]
        array = np.frombuffer(body[begin:end], dtype=bits).astype(bits[-2:])
        tensor = torch.from_numpy(array).reshape(entry["shape"])
        tensors[name] = tensor.view(dtype)
    if covered != len(body):
        raise ValueError(f"{path}: {len(body) - covered} stray bytes at the end")
    return tensors, metadata
