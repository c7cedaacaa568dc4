// `healthy.mjs [URL]`: whether the server in this container answers, for engines that probe by a command: the image has no curl.
import { request as plain } from 'node:http';
import { request as secure } from 'node:https';

const [url = 'http://127.0.0.1:8340/livez'] = process.argv.slice(2);
// It asks itself: whose certificate it is does not matter.
const [request, options] = url.startsWith('https:') ? [secure, { rejectUnauthorized: false }] : [plain, {}];
const asked = request(url, { ...options, timeout: 4000 }, ({ statusCode }) => {
  process.exit(statusCode === 200 ? 0 : 1);
});
asked.on('timeout', () => process.exit(1));
asked.on('error', () => process.exit(1));
asked.end();
