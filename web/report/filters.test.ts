import { describe, expect, it } from 'vitest';
import { emptyState, Finder, fromFragment, toFragment } from './filters';
import { rowsOf } from './testing';

const VIEWS = ['decode', 'latency'];
const columns = (view: string): string[] => (view === 'decode' ? ['model', 'decode_tok_s'] : ['ttft_ms']);
const roundTrip = (fragment: string): string => toFragment(fromFragment(fragment, VIEWS, columns), VIEWS);

describe('state and address', () => {
  it('writes nothing for the state that a page opens with', () => {
    expect(toFragment(emptyState('decode'), VIEWS)).toBe('');
    expect(fromFragment('', VIEWS, columns)).toEqual(emptyState('decode'));
    expect(fromFragment('#', VIEWS, columns)).toEqual(emptyState('decode'));
  });

  it('comes back the same', () => {
    const state = emptyState('latency');
    state.sort = '-ttft_ms';
    state.words = 'rtx 3090';
    state.facets.set('model', new Set(['LFM2 8B-A1B', 'a&b=c #d', '-']));
    state.facets.set('cap', new Set(['350', '']));
    state.chosen = ['48d0ec36bfbe0000-5', '48d0ec36bfbe0000-4'];
    expect(fromFragment(`#${toFragment(state, VIEWS)}`, VIEWS, columns)).toEqual(state);
  });

  it('tells "not known" from a value of the same looks', () => {
    for (const value of ['', '-', '--', '-x']) {
      const state = emptyState('decode');
      state.facets.set('cache', new Set([value]));
      expect([...(fromFragment(toFragment(state, VIEWS), VIEWS, columns).facets.get('cache') ?? [])]).toEqual([value]);
    }
  });

  it('is the same address whatever the order of choosing values', () => {
    expect(roundTrip('kind=raw&kind=api')).toBe(roundTrip('kind=api&kind=raw'));
  });

  it('ignores what it does not know', () => {
    expect(roundTrip('view=nothing&sort=constructor&rows=../../x%20zz&colour=red&L17')).toBe('');
    expect(fromFragment('sort=-decode_tok_s', VIEWS, columns).sort).toBe('-decode_tok_s');
    expect(fromFragment('view=latency&sort=decode_tok_s', VIEWS, columns).sort).toBe('');
  });

  it('takes a row once, and ids only', () => {
    expect(fromFragment('rows=ab-1 ab-1 <script>-1 cd-2', VIEWS, columns).chosen).toEqual(['ab-1', 'cd-2']);
  });
});

const rows = rowsOf([
  { model: 'A', hardware: 'RTX 3090', engine: 'llama.cpp', device_api: 'cuda', power_cap_w: 350, verdict: 'clean' },
  { model: 'A', hardware: 'RTX 3090', engine: 'llama.cpp', device_api: 'cuda', power_cap_w: 450, verdict: 'noisy' },
  { model: 'A', hardware: 'RTX 5070', engine: 'sluice', device_api: null, power_cap_w: null, verdict: 'clean' },
  { model: 'B', hardware: 'RTX 5070', engine: 'sluice', device_api: null, power_cap_w: 1000, verdict: 'clean' },
]);
const match = (fragment: string): { rows: number[]; count: (facet: string) => Record<string, number> } => {
  const found = new Finder(rows).match(fromFragment(fragment, VIEWS, columns));
  return {
    rows: found.rows,
    count: (facet) => Object.fromEntries((found.choices.get(facet) ?? []).map((c) => [c.value, c.count])),
  };
};

describe('matching', () => {
  it('asks for one of a facet’s values and for all facets', () => {
    expect(match('').rows).toEqual([0, 1, 2, 3]);
    expect(match('model=A').rows).toEqual([0, 1, 2]);
    expect(match('model=A&model=B&verdict=clean').rows).toEqual([0, 2, 3]);
    expect(match('cap=-').rows).toEqual([2]);
    expect(match('model=nobody').rows).toEqual([]);
  });

  it('finds words in any order and case, and parts of them', () => {
    expect(match('q=cuda+llama').rows).toEqual([0, 1]);
    expect(match('q=LLAMA').rows).toEqual([0, 1]);
    expect(match('q=5070+b').rows).toEqual([3]);
    expect(match('q=%20%20').rows).toEqual([0, 1, 2, 3]);
    expect(match('q=(').rows).toEqual([]);
  });

  it('counts what each choice would leave beside the other facets', () => {
    const found = match('model=A&verdict=clean');
    expect(found.rows).toEqual([0, 2]);
    expect(found.count('model')).toEqual({ A: 2, B: 1 });
    expect(found.count('verdict')).toEqual({ clean: 2, noisy: 1 });
    expect(found.count('hardware')).toEqual({ 'RTX 3090': 1, 'RTX 5070': 1 });
  });

  it('orders numbers as numbers, and what is not known last', () => {
    const caps = new Finder(rows).match(emptyState('decode')).choices.get('cap') ?? [];
    expect(caps.map((c) => c.value)).toEqual(['350', '450', '1000', '']);
  });

  it('names a backend with its device interface', () => {
    expect(match('backend=llama.cpp+(cuda)').rows).toEqual([0, 1]);
    expect(match('backend=sluice').rows).toEqual([2, 3]);
  });
});
