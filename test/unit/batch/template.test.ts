import { expect, it } from 'vitest';
import { parseTemplate } from '../../../src/batch/template.ts';

it.each([
  ['Input: {{a}}\nOutput:', ['a'], 'Input: <a>\nOutput:'],
  ['{{ a }}{{b c}}{{a}}', ['a', 'b c'], '<a><b c><a>'],
  ['no column', [], 'no column'],
  ['{{open {a} }', [], '{{open {a} }'],
  ['{"k": "{{a}}"}', ['a'], '{"k": "<a>"}'],
  ['{{{a}}}', ['a'], '{<a>}'],
  ['$& {{$1}}', ['$1'], '$& <$1>'],
])('parses %j', (text, columns, rendered) => {
  const template = parseTemplate(text);
  expect(template.columns).toEqual(columns);
  expect(template.render((column) => `<${column}>`)).toBe(rendered);
});
