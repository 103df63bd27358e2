/** The two switches: theme, remembered here; and what others hear of a change of theme. */
const KEY = 'tidemark-theme';

/** `changed` is called when the colours are others now, by the switch or by the system. */
export function startTheme(fieldset, changed) {
  const root = document.documentElement;
  const current = root.dataset.theme ?? 'auto';
  for (const input of fieldset.querySelectorAll('input')) {
    input.checked = input.value === current;
    input.addEventListener('change', () => {
      if (input.value === 'auto') delete root.dataset.theme;
      else root.dataset.theme = input.value;
      try {
        if (input.value === 'auto') localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, input.value);
      } catch {
        // not remembered
      }
      changed();
    });
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
}

/** Calls `chosen` with the value of each choice. */
export function onChoice(fieldset, chosen) {
  for (const input of fieldset.querySelectorAll('input')) input.addEventListener('change', () => chosen(input.value));
}
