/** A DataView reads and writes four bytes at once, wherever they lie; many values one after the other lie in the same buffer, so the last view is kept. */

let viewed: Uint8Array = new Uint8Array(0);
let view = new DataView(viewed.buffer);

export function viewOf(bytes: Uint8Array): DataView {
  if (bytes !== viewed) {
    viewed = bytes;
    view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  return view;
}
