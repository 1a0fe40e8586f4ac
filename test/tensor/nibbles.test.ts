import assert from 'node:assert/strict';
import { tensorFromProto, tensorToProto } from '../../lib/graph/tensor-proto';
import { packNibbles, unpackNibbles } from '../../lib/tensor/nibbles';
import { Tensor } from '../../lib/tensor/tensor';

describe('4-bit elements', () => {
  const int4 = Int8Array.of(-8, -1, 0, 7, -5);
  const uint4 = Uint8Array.of(0, 15, 8, 1, 9);

  it('are packed in pairs, low half first, the odd one with 0', () => {
    assert.deepEqual([...packNibbles(int4)], [0xf8, 0x70, 0x0b]);
    assert.deepEqual([...packNibbles(uint4)], [0xf0, 0x18, 0x09]);
    assert.deepEqual([...packNibbles(new Int8Array(0))], []);
  });

  it('come back with their sign', () => {
    assert.deepEqual(unpackNibbles(packNibbles(int4), 'int4', 5), int4);
    assert.deepEqual(unpackNibbles(packNibbles(uint4), 'uint4', 5), uint4);
  });

  it('take half a byte in messages, raw or typed', () => {
    for (const tensor of [new Tensor('int4', int4, [5, 1]), new Tensor('uint4', uint4, [1, 5])]) {
      const proto = tensorToProto(tensor, 't');
      assert.equal(proto.rawData?.length, 3);
      const typed = { ...proto, rawData: new Uint8Array(0), int32Data: [...proto.rawData!] };
      for (const message of [proto, typed]) {
        const back = tensorFromProto(message, 't');
        assert.deepEqual([back.type, back.dims, back.data], [tensor.type, [...tensor.dims], tensor.data]);
      }
      for (const wrong of [{ rawData: new Uint8Array(5) }, { rawData: undefined, int32Data: [1, 2] }])
        assert.throws(() => tensorFromProto({ ...proto, ...wrong }, 't'), /3 bytes of u?int4 data/);
    }
  });
});
