"""Reading and writing .safetensors files with nothing but torch.

A file is:  8 bytes  size of the header, little-endian unsigned
            header   JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ..., "__metadata__": {str: str}}
            data     the tensors, row-major, one after another; offsets count from here
"""
import ctypes
import json
import struct

import torch

DTYPES = {"F64": torch.float64, "F32": torch.float32, "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def save(path, tensors, metadata=None):
    """Writes {name: tensor} and {str: str} metadata to `path`, tensors in the order of the dictionary."""
    header, data = {"__metadata__": metadata or {}}, bytearray()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.dtype not in NAMES:
            raise TypeError(f"[save] {name}: got dtype {tensor.dtype}, expected one of {', '.join(DTYPES)}")
        begin = len(data)
        data += ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size()) if tensor.numel() else b""
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)                              # the data starts at a multiple of 8
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def load(path):
    """Reads `path`; returns ({name: tensor}, metadata)."""
    with open(path, "rb") as file:
        content = bytearray(file.read())
    size = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if size < 2 or 8 + size > len(content):
        raise ValueError(f"[load] {path} is not a safetensors file: {len(content)} bytes, header of {size}")
    header = json.loads(content[8:8 + size])
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, entry in header.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        if end > len(content):
            raise ValueError(f"[load] {path}: {name} ends at byte {end}, but the file has {len(content)}")
        dtype = DTYPES[entry["dtype"]]
        tensor = torch.frombuffer(content[begin:end], dtype=dtype) if end > begin else torch.empty(0, dtype=dtype)
        tensors[name] = tensor.reshape(entry["shape"])
    return tensors, metadata
