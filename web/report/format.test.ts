import { describe, expect, it } from 'vitest';
import * as format from './format';

const plain = (text: string): string => text.replaceAll('\u202f', ' ');

describe('figures', () => {
  it('have four significant digits and lose no whole ones', () => {
    expect(format.figure(439.94)).toBe('439.9');
    expect(format.figure(2.27)).toBe('2.270');
    expect(format.figure(0.0041032)).toBe('0.004103');
    expect(format.figure(9.99996)).toBe('10.00');
    expect(format.figure(9999.6)).toBe('10\u202f000');
    expect(plain(format.figure(35490.6))).toBe('35 491');
    expect(format.figure(0)).toBe('0');
    expect(format.figure(-9.125)).toBe('−9.125');
  });

  it('write an interval with equal decimals at both ends', () => {
    expect(format.interval(431.2, 447.4)).toBe('431–447');
    expect(format.interval(0.0987, 0.1234)).toBe('0.099–0.123');
    expect(format.interval(-0.4, 0.25, 2)).toBe('−0.40 to 0.25');
    expect(format.interval(22.27, 22.94)).toBe('22.3–22.9');
  });

  it('give one digit more to the ends of an interval that would print alike', () => {
    expect(format.interval(439.81, 439.93)).toBe('439.8–439.9');
  });

  it('write durations, sizes and counts in the unit that their size asks for', () => {
    expect(plain(format.duration(21))).toBe('21.0 ms');
    expect(plain(format.duration(2050))).toBe('2.05 s');
    expect(plain(format.duration(135_571))).toBe('2.26 min');
    expect(plain(format.bytes(5 * 2 ** 30))).toBe('5.00 GiB');
    expect(plain(format.bytes(1023))).toBe('1023 B');
    expect(plain(format.count(8_339_929_856))).toBe('8.34 B');
    expect(plain(format.percent(0.4177))).toBe('41.8 %');
    expect(format.ratio(1.56530757)).toBe('×1.565');
    expect(format.plural(1, 'row')).toBe('1 row');
    expect(plain(format.plural(10067, 'row'))).toBe('10 067 rows');
  });

  it('never round a level up', () => {
    expect(plain(format.level(0.95))).toBe('95 %');
    expect(plain(format.level(0.9375))).toBe('93.75 %');
    expect(plain(format.level(0.949999))).toBe('94.999 %');
    expect(plain(format.level(0.9999999))).toBe('99.999 %');
  });
});
