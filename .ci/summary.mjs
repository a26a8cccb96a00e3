// Adds up a JSON report of vitest and the exit codes of commands (NAME=CODE), and exits with 1 if anything failed.
import { readFileSync } from 'node:fs';

const [reportPath, ...commands] = process.argv.slice(2);
const failures = [];
let passed = 0;
let skipped = 0;

for (const file of readReport().testResults) {
  passed += file.assertionResults.filter(({ status }) => status === 'passed').length;
  const failed = file.assertionResults.filter(({ status }) => status === 'failed');
  skipped += file.assertionResults.filter(({ status }) => status !== 'passed' && status !== 'failed').length;
  failures.push(...failed.map(({ fullName }) => `${file.name}: ${fullName}`));
  if (file.status === 'failed' && failed.length === 0) failures.push(`${file.name}: ${file.message || 'could not be run'}`);
}
for (const command of commands) {
  const [name, code] = command.split('=');
  if (code === '0') passed += 1;
  // A failed test makes its command fail, too, which is one failure and not two.
  else if (name !== 'npm cit' || failures.length === 0) failures.push(`${name}: exit code ${code}`);
}

for (const failure of failures) console.log(`failed: ${failure}`);
if (skipped > 0) console.log(`skipped: ${skipped} tests`);
console.log(`${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;

function readReport() {
  try {
    return JSON.parse(readFileSync(reportPath, 'utf8'));
  } catch {
    return { testResults: [] }; // the exit code of the command tells
  }
}
