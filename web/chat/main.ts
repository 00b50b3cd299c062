import { formatBytes } from '../shared/format';

const app = document.getElementById('app');
if (app) app.textContent = `sluice ${formatBytes(0)}`;
