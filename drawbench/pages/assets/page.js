// Runs once, with whatever of the pages comes first: keeps React working while the browser translates, and
// keeps answers and keys from being pressed too early or behind a dialog.
// Streamlit drops a script in which a less-than sign stands before a letter.
(() => {
  if (window.evalkitGate) return;

  // A translator wraps text in font elements, also text that React made and will move or remove.
  // What React writes stays as it is; our own HTML may be translated (translate="yes").
  document.getElementById("root")?.setAttribute("translate", "no");

  const { removeChild, insertBefore } = Node.prototype;
  function ownChild(parent, node) {
    let own = node;
    while (own && own.parentNode !== parent) own = own.parentNode;
    return own;
  }
  Node.prototype.removeChild = function (child) {
    if (child.parentNode === this) return removeChild.call(this, child);
    const wrapper = ownChild(this, child);
    if (wrapper && wrapper.textContent === child.textContent) removeChild.call(this, wrapper);
    else if (child.parentNode) removeChild.call(child.parentNode, child);
    return child;
  };
  Node.prototype.insertBefore = function (node, before) {
    if (!before || before.parentNode === this) return insertBefore.call(this, node, before);
    return insertBefore.call(this, node, ownChild(this, before));
  };

  // The gate of the answers. It opens when the images are there (sets.js says so), and a moment after
  // the page changed. The buttons belong to Streamlit, so they are watched.
  const SETTLE_MS = 500; // a press sooner after a change was meant for what was there before
  const ANSWERS = '[class*="st-key-answer-"]';
  const LAYOUT = `[class*="st-key-question-"], ${ANSWERS}`;
  const OVERLAYS = '[role="dialog"], [data-testid="stPopoverBody"]';
  let page = null; // { isReady(cell), dialogs: [{ element, onKey }] }
  let isOpen = false;
  let layout = "";
  let changedAt = performance.now();

  // Looks whether the gate is open, and lets the buttons show it.
  function look() {
    const found = [...document.querySelectorAll(LAYOUT)];
    const now = found.map((element) => element.className.match(/st-key-\S+/)[0]).join();
    if (now !== layout) {
      layout = now;
      changedAt = performance.now();
      setTimeout(look, SETTLE_MS + 10);
    }
    const cell = document.querySelector(ANSWERS)?.className.match(/st-key-answer-(\d+)-/)?.[1];
    isOpen = Boolean(page?.isReady(cell)) && performance.now() - changedAt >= SETTLE_MS;
    document.querySelectorAll(`${ANSWERS} button`).forEach((button) => {
      if (!isOpen && !button.disabled) {
        button.disabled = true;
        button.dataset.gated = "";
      } else if (isOpen && "gated" in button.dataset) {
        button.disabled = false;
        delete button.dataset.gated;
      }
    });
    return isOpen;
  }
  new MutationObserver(look).observe(document.body, {
    childList: true, subtree: true, attributeFilter: ["class"],
  });

  // Keys belong to the dialog that is open, or else to the answers once their gate is open. This
  // listens before everybody else, so no key reaches what lies behind a dialog.
  function onKey(event) {
    const dialog = page?.dialogs.find((each) => each.element.open);
    if (dialog) {
      dialog.onKey?.(event);
      event.stopImmediatePropagation();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isAnswer = /^[1-9]$/.test(event.key);
    if (!isAnswer && event.key.toLowerCase() !== "u") return;
    const isEarly = isAnswer && !look();
    if (event.repeat || isEarly || document.querySelector(OVERLAYS)) {
      event.stopImmediatePropagation();
    }
  }
  function onClick(event) {
    if (event.target instanceof Element && event.target.closest(ANSWERS) && !look()) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }
  window.addEventListener("keydown", onKey, true);
  window.addEventListener("click", onClick, true);
  window.evalkitGate = {
    look,
    enter(next) { page = next; look(); },
    leave(old) { if (page === old) page = null; look(); },
  };
  document.documentElement.dataset.gate = ""; // until now, the style sheet has kept clicks away
})();
