// Reads a safetensors file: 8 bytes of little-endian header length, the header as JSON, then the numbers.

const LARGEST_HEADER = 100_000_000; // bytes, the format's own limit

const ARRAYS = {
  F64: Float64Array,
  F32: Float32Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U64: BigUint64Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
};

/**
 * @param {ArrayBuffer} buffer the whole file
 * @returns {{tensors: Object<string, {shape: number[], data: ArrayLike<number>}>, metadata: Object<string, string>}}
 * @throws {Error} a sentence, where the file is cut off, is no safetensors file, or has a type that is not read here
 */
export function readSafetensors(buffer) {
  const refuse = (why) => new Error(`The view cannot be read: ${why}. Run the workflow again to make a new one.`);
  if (buffer.byteLength < 8) {
    throw refuse(`a file of ${buffer.byteLength} bytes is no safetensors file`);
  }
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > LARGEST_HEADER || 8 + length > buffer.byteLength) {
    throw refuse(`its header should have ${length} bytes, the file has ${buffer.byteLength}`);
  }
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, length)));
  } catch (error) {
    throw refuse(`its header is no JSON (${error.message})`);
  }
  const tensors = {};
  for (const [name, entry] of Object.entries(header ?? {})) {
    if (name !== "__metadata__") {
      tensors[name] = tensor(buffer, 8 + length, name, entry, refuse);
    }
  }
  return { tensors, metadata: header?.__metadata__ ?? {} };
}

function tensor(buffer, origin, name, entry, refuse) {
  const { dtype, shape, data_offsets: offsets } = entry ?? {};
  const Numbers = Object.hasOwn(ARRAYS, dtype ?? "") ? ARRAYS[dtype] : null;
  if (!Numbers || !Array.isArray(shape) || !Array.isArray(offsets)) {
    throw refuse(`${name} is of type ${dtype}; ${Object.keys(ARRAYS).join(", ")} can be read`);
  }
  const [first, last] = offsets;
  const count = shape.reduce((product, size) => product * size, 1);
  const whole = [first, last, ...shape].every((number) => Number.isSafeInteger(number) && number >= 0);
  if (!whole || origin + last > buffer.byteLength || last - first !== count * Numbers.BYTES_PER_ELEMENT) {
    throw refuse(`${name} of shape [${shape}] does not fill the bytes ${first} to ${last}`);
  }
  const start = origin + first;
  const aligned = start % Numbers.BYTES_PER_ELEMENT === 0; // a typed array cannot begin in between
  const data = aligned
    ? new Numbers(buffer, start, count)
    : new Numbers(buffer.slice(start, start + count * Numbers.BYTES_PER_ELEMENT));
  return { shape, data };
}
