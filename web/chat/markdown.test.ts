// @vitest-environment jsdom
import { describe, expect, test } from 'vitest';
import { GrowingMarkdown, highlight, renderMarkdown } from './markdown';

function render(text: string): HTMLElement {
  const box = document.createElement('div');
  box.append(renderMarkdown(text));
  return box;
}

const HOSTILE = [
  '<script>window.hit = 1</script>',
  '<img src=x onerror="window.hit = 1">',
  '<svg onload="window.hit = 1"><script>window.hit = 1</script></svg>',
  '<style>body { display: none }</style>',
  '<iframe srcdoc="<script>parent.hit = 1</script>"></iframe>',
  '<a href="javascript:window.hit=1">x</a>',
  '[x](javascript:window.hit=1)',
  '[x](JaVaScRiPt&colon;window.hit=1)',
  '[x](data:text/html,<script>window.hit=1</script>)',
  '[x](vbscript:hit)',
  '![x](javascript:window.hit=1)',
  '![x](https://evil.example/a.png)',
  '<b onclick="window.hit=1">x</b>',
  '<b style="position:fixed">x</b>',
  '<form action="https://evil.example"><input name=key><button>ok</button></form>',
  '<math><mtext><table><mglyph><style><img src=x onerror=window.hit=1>',
  '<noscript><p title="</noscript><img src=x onerror=window.hit=1>">',
  '<base href="https://evil.example/">',
  '<meta http-equiv="refresh" content="0;url=https://evil.example">',
  '<link rel=stylesheet href=https://evil.example/x.css>',
  '<object data="https://evil.example"></object><embed src="https://evil.example">',
  '`<img src=x onerror=window.hit=1>`',
  '```html\n<img src=x onerror=window.hit=1>\n```',
  '```"><img src=x onerror=window.hit=1>\ncode\n```',
  '<a href="https://ok.example" id="sidebar" name="x" onmouseover="hit=1">x</a>',
  '| a |\n|---|\n| <img src=x onerror=window.hit=1> |',
];

describe('a hostile answer runs nothing and asks for nothing', () => {
  for (const text of HOSTILE) {
    test(text.slice(0, 60), () => {
      const box = render(text);
      for (const tag of ['script', 'img', 'svg', 'style', 'iframe', 'form', 'input', 'base', 'meta', 'link', 'object', 'embed', 'math']) {
        expect(box.querySelector(tag), tag).toBeNull();
      }
      for (const element of box.querySelectorAll('*')) {
        for (const { name, value } of element.attributes) {
          expect(name).not.toMatch(/^on|^style$|^id$|^name$|^src/);
          if (name === 'href') expect(value).toMatch(/^(https?:\/\/|mailto:)/);
        }
      }
      expect('hit' in window).toBe(false);
    });
  }
});

test('tags in a text are text, harmless ones are kept', () => {
  expect(render('Use a <div> and a <custom-tag>.').textContent).toContain('Use a <div> and a <custom-tag>.');
  expect(render('H<sub>2</sub>O<br>x').querySelector('sub')?.textContent).toBe('2');
});

test('what answers use', () => {
  const box = render('# T\n\n**b** *i* ~~s~~ `c`\n\n1. a\n2. b\n   - x\n\n> q\n\n| a | b |\n|--|--:|\n| 1 | 2 |\n\n- [x] done\n- [ ] open\n\n[l](https://x.example)');
  for (const tag of ['h1', 'strong', 'em', 'del', 'code', 'ol', 'ul', 'blockquote', 'table']) expect(box.querySelector(tag), tag).not.toBeNull();
  expect(box.textContent).toContain('☑ done');
  const link = box.querySelector('a');
  expect(link?.getAttribute('rel')).toBe('noopener noreferrer nofollow');
  expect(link?.getAttribute('target')).toBe('_blank');
});

test('a picture becomes a link', () => {
  const link = render('![a cat](https://x.example/cat.png)').querySelector('a');
  expect(link?.textContent).toBe('a cat');
  expect(link?.getAttribute('href')).toBe('https://x.example/cat.png');
});

test('code keeps its text, gets colours, a name and a button', () => {
  const code = 'def f(a):\n    return a < 1 and "<b>" # x';
  const box = render('- list\n\n  ```python\n  ' + code.replaceAll('\n', '\n  ') + '\n  ```');
  expect(box.querySelector('figure code')?.textContent).toBe(code);
  expect(box.querySelector('.hljs-keyword')).not.toBeNull();
  expect(box.querySelector('figcaption')?.textContent).toBe('pythonCopy');
  expect(render('```unknown-language\nx\n```').querySelector('figcaption span')?.textContent).toBe('unknown-language');
  expect(highlight('a < b', 'nothing').textContent).toBe('a < b');
});

test('formulas stay as they are written', () => {
  const inline = render('The root \\(x_1 * x_2 = \\frac{a}{b}\\) and $$y_1^*$$ cost $5 and $6.');
  expect([...inline.querySelectorAll('span.math')].map((e) => e.textContent)).toEqual(['x_1 * x_2 = \\frac{a}{b}', 'y_1^*']);
  expect(inline.textContent).toContain('cost $5 and $6.');
  const block = render('So\n\n\\[\na_1 < b \\\\\nc\n\\]\n\nand\n\n$$\n<img src=x onerror=hit=1>\n$$\n\nend');
  expect([...block.querySelectorAll('p.math')].map((e) => e.textContent)).toEqual(['a_1 < b \\\\\nc', '<img src=x onerror=hit=1>']);
  expect(render('`\\(x\\)`').querySelector('.math')).toBeNull();
});

test('text made to cost time or stack', () => {
  for (const piece of ['\\[', '\\(', '$$', '[', '![', '**', '`', '<', '|', '> ', '1. ', '* a\n  ']) {
    const text = piece.repeat(3000);
    const begin = performance.now();
    const box = render(text);
    const growing = new GrowingMarkdown(document.createElement('div'));
    growing.update(text, false);
    growing.update('Short.', true);
    expect(box.textContent?.length, piece).toBeGreaterThan(0);
    expect(performance.now() - begin, piece).toBeLessThan(10_000);
  }
  const box = document.createElement('div');
  const growing = new GrowingMarkdown(box);
  growing.update('> '.repeat(20_000), false);
  growing.update('**Short.**', true);
  expect(box.textContent?.trim()).toBe('Short.');
}, 60_000);

describe('an answer that grows', () => {
  const text = '# Title\n\nA paragraph with `code` and [a][1] link.\n\n```js\nconst a = 1;\n```\n\n- one\n- two\n\n| a |\n|---|\n| 1 |\n\n[1]: https://x.example\n\nEnd.';

  test('ends as the whole text does, at any cut', () => {
    const whole = render(text).innerHTML.replace(/\s+/g, ' ').trim();
    for (const size of [1, 3, 7, 50, 1000]) {
      const box = document.createElement('div');
      const growing = new GrowingMarkdown(box);
      for (let n = size; n < text.length; n += size) growing.update(text.slice(0, n), false);
      growing.update(text, true);
      expect(box.innerHTML.replace(/\s+/g, ' ').trim()).toBe(whole);
    }
  });

  test('keeps the elements that have not changed', () => {
    const box = document.createElement('div');
    const growing = new GrowingMarkdown(box);
    growing.update('First.\n\nSec', false);
    const first = box.querySelector('p');
    growing.update('First.\n\nSecond.\n\nThird', false);
    expect(box.querySelector('p')).toBe(first);
    expect([...box.querySelectorAll('p')].map((p) => p.textContent)).toEqual(['First.', 'Second.', 'Third']);
    growing.update('Other.', true);
    expect(box.textContent?.trim()).toBe('Other.');
  });
});
