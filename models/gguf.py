"""Reading and writing GGUF files (version 3)."""
import struct

from quant import BYTES, unpack

U32, I32, F32_T, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
_FORMAT = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
ALIGN = 32


class Reader:
    """metadata: key -> value; tensors: name -> (shape, type, offset), shape fastest dimension first."""

    def __init__(self, path):
        self.data = open(path, "rb").read()
        self.at = 0
        magic, version, tensors, keys = self._take("4sIQQ")
        if magic != b"GGUF" or version != 3:
            raise ValueError("%s is no GGUF file of version 3" % path)
        self.metadata, self.tensors = {}, {}
        for _ in range(keys):
            k = self._string()
            self.metadata[k] = self._value(self._take("I")[0])
        for _ in range(tensors):
            name = self._string()
            n = self._take("I")[0]
            shape = self._take("%dQ" % n)
            kind, offset = self._take("IQ")
            self.tensors[name] = (shape, kind, offset)
        self.base = -(-self.at // ALIGN) * ALIGN

    def _take(self, f):
        v = struct.unpack_from("<" + f, self.data, self.at)
        self.at += struct.calcsize("<" + f)
        return v

    def _string(self):
        n = self._take("Q")[0]
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def _value(self, t):
        if t == STRING:
            return self._string()
        if t == ARRAY:
            e, n = self._take("IQ")
            return [self._value(e) for _ in range(n)]
        return self._take(_FORMAT[t])[0]

    def tensor(self, name):
        """The tensor as f32, slowest dimension first."""
        shape, kind, offset = self.tensors[name]
        count = 1
        for s in shape:
            count *= s
        block, size = BYTES[kind]
        at = self.base + offset
        return unpack(self.data[at:at + count // block * size], kind, count).reshape(shape[::-1])


def write(path, metadata, tensors):
    """metadata: list of (key, type or (ARRAY, type), value); tensors: list of (name, shape fastest first, type, bytes)."""
    def text(s):
        b = s.encode()
        return struct.pack("<Q", len(b)) + b

    def value(t, v):
        return text(v) if t == STRING else struct.pack("<" + _FORMAT[t], v)
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, t, v in metadata:
        out.append(text(key))
        if isinstance(t, tuple):
            out.append(struct.pack("<IIQ", ARRAY, t[1], len(v)))
            out += [value(t[1], x) for x in v]
        else:
            out.append(struct.pack("<I", t) + value(t, v))
    offset = 0
    for name, shape, kind, raw in tensors:
        out.append(text(name) + struct.pack("<I%dQIQ" % len(shape), len(shape), *shape, kind, offset))
        offset += -(-len(raw) // ALIGN) * ALIGN
    head = b"".join(out)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN))
        for name, shape, kind, raw in tensors:
            f.write(raw + bytes(-len(raw) % ALIGN))
