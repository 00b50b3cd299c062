import { startTheme } from '../shared/theme';
import { App } from './app';
import { openStorage } from './storage';

startTheme();
void openStorage().then((storage) => new App(storage).begin());
