// Writes the lines of the README into a module, which is compiled and run with the tests.
import { readFileSync, writeFileSync } from "node:fs";

const [, code] = /^```js\n(.*?)^```/ms.exec(readFileSync("README.md", "utf-8"));
writeFileSync("test/readme.ts", code.replace('"http://127.0.0.1:8000/api/v1"', 'process.env["API"]!'));
