// Before anything is painted: the theme that was chosen here before. A plain script, so that it runs at once.

(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem('tidemark-theme');
  } catch {
    // storage is forbidden: the system's own theme
  }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
