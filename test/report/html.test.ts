/** The page: self-contained, safe with any name, complete. */
import assert from 'node:assert/strict';
import { compareModels, quantize, renderHtml } from '../../lib';
import { feedsFor, NETWORKS } from '../quantize/networks';

describe('renderHtml', () => {
  it('shows every tensor, weight and float node, and loads nothing', async () => {
    const [network] = NETWORKS;
    const calibration = feedsFor(network, 2);
    const { model, report } = await quantize(network.model, {
      mode: 'static',
      calibration,
      exclude: ['left'],
    });
    const analysis = await compareModels(network.model, model, calibration);
    const html = renderHtml({ title: 'A <b>bold</b> & "quoted" name', quantization: report, analysis });
    assert.doesNotMatch(html, /https?:|<link|src=|@import|url\(/);
    assert.ok(html.includes('A &#60;b&#62;bold&#60;/b&#62; &#38; &#34;quoted&#34; name'));
    for (const { name } of [...analysis.tensors, ...analysis.weights]) assert.ok(html.includes(name), name);
    assert.match(html, /exclude/);
    assert.equal(html.match(/class="spark"/g)?.length, analysis.tensors.length + analysis.weights.length);
    assert.equal(html.match(/class="hit"/g)?.length, analysis.tensors.length);
    assert.doesNotMatch(html.slice(0, html.indexOf('<script>')), /NaN|undefined|\[object/);
    // Elements are closed in order.
    const open: string[] = [];
    for (const [, end, tag, selfClosed] of html
      .slice(0, html.indexOf('<script>'))
      .matchAll(/<(\/?)([a-z][a-z0-9]*)[^>]*?(\/?)>/g)) {
      if (['meta', 'br', 'link'].includes(tag) || selfClosed) continue;
      if (end) assert.equal(open.pop(), tag);
      else open.push(tag);
    }
    assert.deepEqual(open, ['html', 'body']);
  });

  it('does without data', async () => {
    const { report } = await quantize(NETWORKS[0].model, { mode: 'dynamic' });
    assert.match(renderHtml({ title: 'x', quantization: report }), /No data was given/);
  });
});
