// What pages do better with a script; every page works without. No address but links and forms that stand on the page, nothing kept.
'use strict';
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // Copying: a button that nothing else could serve is shown only now.
  for (const button of all('[data-copy]')) {
    button.hidden = false;
    button.addEventListener('click', async () => {
      const name = button.getAttribute('aria-label');
      let told = 'Copied';
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
      } catch {
        told = 'Not copied: the browser does not allow it here';
      }
      button.classList.add('done');
      button.title = told;
      say(told);
      setTimeout(() => {
        button.classList.remove('done');
        button.title = name;
      }, 2000);
    });
  }

  for (const part of all('[data-show]')) part.hidden = false;

  // What changed without a new page, for those who hear it.
  const voice = document.createElement('p');
  voice.className = 'sr';
  voice.setAttribute('role', 'status');
  document.body.append(voice);
  function say(text) {
    voice.textContent = text;
  }

  // Selecting: the bar names how many are selected, and the box in the head selects all that are shown.
  const picks = () => all('.list tbody .pick input');
  const whole = document.querySelector('.list thead .pick input');
  function counted() {
    const boxes = picks();
    const on = boxes.filter((box) => box.checked);
    for (const place of all('[data-selected]')) {
      const findings = on.reduce((sum, box) => sum + Number(box.dataset.findings ?? 0), 0);
      const rows = `${on.length.toLocaleString('en')} ${on.length === 1 ? place.dataset.one : place.dataset.many}`;
      place.textContent = `${rows}${findings > 0 ? `, ${findings.toLocaleString('en')} open ${findings === 1 ? 'finding' : 'findings'}` : ''} selected`;
    }
    if (whole !== null) {
      whole.checked = boxes.length > 0 && on.length === boxes.length;
      whole.indeterminate = on.length > 0 && on.length < boxes.length;
    }
  }
  if (whole !== null) {
    whole.hidden = false;
    whole.addEventListener('change', () => {
      for (const box of picks()) box.checked = whole.checked;
      counted();
    });
  }
  document.addEventListener('change', (event) => {
    if (event.target.matches('.list .pick input')) counted();
  });
  counted();

  // Some choices show their consequence at once; without a script there is a button for it.
  for (const form of all('form[data-live]')) {
    let timer;
    let asked = 0;
    const target = form.querySelector('[data-preview]');
    form.addEventListener('input', () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const mine = ++asked;
        const body = new URLSearchParams(new FormData(form));
        let text = '';
        try {
          const answer = await fetch(form.dataset.live, { method: 'POST', body, credentials: 'same-origin' });
          if (!answer.redirected) text = await answer.text();
        } catch {
          // No answer, no preview: the button beside it asks again.
        }
        // The answer to what was typed last; an older one that comes late says nothing any more.
        if (mine !== asked) return;
        const fresh = new DOMParser().parseFromString(text, 'text/html').querySelector('[data-preview]');
        if (fresh !== null && target !== null) target.replaceChildren(...fresh.childNodes);
      }, 300);
    });
  }

  // Menus close as people expect.
  document.addEventListener('click', (event) => {
    for (const menu of all('details.account[open], details.menu[open]'))
      if (!menu.contains(event.target)) menu.open = false;
  });

  // Keys: j and k go through rows, x selects, e acknowledges, / searches, ? tells.
  const rows = () => all('.list .go');
  function move(by) {
    const links = rows();
    const at = links.indexOf(document.activeElement?.closest?.('tr')?.querySelector('.go'));
    const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1)];
    next?.focus();
    next?.scrollIntoView({ block: 'nearest' });
  }
  const KEYS = {
    j: () => move(1),
    k: () => move(-1),
    x: () => document.activeElement?.closest?.('tr')?.querySelector('.pick input')?.click(),
    e: () => document.querySelector('[data-key="e"]')?.click(),
    '/': () => {
      const field = document.querySelector('.query input[name="q"]') ?? document.querySelector('.seek input');
      field?.focus();
      field?.select();
    },
    '?': () => document.querySelector('.foot a[href="/keys"]')?.click(),
  };
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      for (const menu of all('details.account[open], details.menu[open]')) {
        menu.open = false;
        menu.querySelector('summary').focus();
      }
      if (document.activeElement?.matches?.('.query input, .seek input')) document.activeElement.blur();
      return;
    }
    const typing = event.target.closest?.('input:not([type=checkbox], [type=radio]), textarea, select');
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const act = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : undefined;
    if (act === undefined) return;
    event.preventDefault();
    act();
  });
})();
