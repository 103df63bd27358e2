/** Preloaded (`node --import`) into a service: SIGUSR2 sets its clock an hour ahead, so that what waits for a grace to end goes on. */
const now = Date.now;
let aheadMs = 0;
Date.now = () => now() + aheadMs;
process.on('SIGUSR2', () => {
  aheadMs = 3_600_000;
});
