/** `--report file`: a page for people (.html) or all numbers for programs (.json). */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, extname } from 'node:path';
import { type HtmlReport, renderHtml } from '../report/html';
import { UsageError } from './context';

/** Checked before the work starts. @throws UsageError */
export function checkReportPath(path: string | undefined): void {
  if (path === undefined) return;
  if (!['.html', '.json'].includes(extname(path).toLowerCase())) {
    throw new UsageError(`--report takes a file that ends in .html or .json, not ${JSON.stringify(path)}.`);
  }
  if (!existsSync(dirname(path))) throw new UsageError(`There is no folder ${JSON.stringify(dirname(path))}.`);
}

/** Writes the page, or `data` as JSON. */
export async function writeReport(path: string, page: HtmlReport, data: unknown): Promise<void> {
  const isHtml = extname(path).toLowerCase() === '.html';
  await writeFile(path, isHtml ? renderHtml(page) : `${JSON.stringify(data, null, 1)}\n`);
}
