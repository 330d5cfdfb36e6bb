"""Write a GGUF file again with the matrices of its blocks in another quantisation, by the quantisers of `gguf`.

    python benchmarks/quantised_forms.py MODEL.gguf OUT Q8_0 Q5_0 Q4_0

OUT gets one file a type, named for it. Embeddings, vectors and metadata stay as they are. What is quantised are the floats of
the given file: where that is quantised itself, the new file holds the rounding of both. ``asset:smollm2-135m-instruct`` names
the demo's model.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf

from ks_lottery.store.embedded_models import model_gguf

ARRAY = gguf.GGUFValueType.ARRAY


def write(source: Path, out: Path, kind: gguf.GGMLQuantizationType) -> None:
    """Write `source` to `out` with every matrix of a block as `kind`."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
    writer = gguf.GGUFWriter(out, str(architecture))
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == gguf.Keys.General.ARCHITECTURE:
            continue
        inner = field.types[-1] if field.types[0] == ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        data, to = tensor.data, tensor.tensor_type
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
            data, to = gguf.quants.quantize(gguf.quants.dequantize(data, to), kind), kind
        writer.add_tensor(tensor.name, data, raw_dtype=to)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Write one file a type."""
    model, out, *kinds = sys.argv[1:]
    source = model_gguf(model) if model.startswith("asset:") else Path(model)
    Path(out).mkdir(parents=True, exist_ok=True)
    for name in kinds:
        write(source, Path(out) / f"{name}.gguf", gguf.GGMLQuantizationType[name])
        print(f"{name}: {(Path(out) / f'{name}.gguf').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
