// Draws the sets of images, enlarges and reports them, loads the next page's images ahead, and opens
// the gate of the answers (see page.js) once all images are there. The server sends blind names only;
// a picture is served at picture/NAME. All words come with the data.
//
// The component is part of a form: what it tells the server (`seen`, `report`) travels with the next
// press of a button of that form, so that one answer is one message.

const RETRIES = 3;
const RETRY_MS = 800;
const STALLED_MS = 30000;
const QUIET_MS = 400; // images that load faster than this need no notice
const REPORT_PATIENCE_MS = 20000;

function pictureUrl(name) {
  return new URL("picture/" + encodeURIComponent(name), document.baseURI).href;
}

// Loads a picture, again after a failure; `onState` hears "loading", "loaded" or "failed".
function loadPicture(image, name, onState) {
  let attempt = 0;
  const stalled = setTimeout(() => onState("failed"), STALLED_MS);
  image.onerror = () => {
    attempt += 1;
    if (attempt <= RETRIES) {
      setTimeout(() => { image.src = pictureUrl(name); }, RETRY_MS * 2 ** (attempt - 1));
      return;
    }
    clearTimeout(stalled);
    onState("failed");
  };
  image.onload = () => { clearTimeout(stalled); onState("loaded"); };
  onState("loading");
  image.src = pictureUrl(name);
}

function putTexts(root, texts) {
  root.querySelectorAll("[data-text]").forEach((element) => {
    element.textContent = texts[element.dataset.text];
  });
  root.querySelectorAll("[data-label]").forEach((element) => {
    element.setAttribute("aria-label", texts[element.dataset.label]);
  });
}

function makeViewer(root, report) {
  const dialog = root.querySelector(".viewer");
  const image = root.querySelector(".viewer-image");
  const title = root.querySelector(".viewer-title");
  let pictures = [];
  let index = 0;

  function show(position) {
    index = (position + pictures.length) % pictures.length;
    const picture = pictures[index];
    title.textContent = picture.label;
    image.alt = picture.label;
    loadPicture(image, picture.name, () => {});
  }
  function step(by) {
    // Stay within the set that was opened.
    const own = pictures[index].set;
    let position = index;
    do { position = (position + by + pictures.length) % pictures.length; }
    while (pictures[position].set !== own);
    show(position);
  }
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  root.querySelector(".viewer-close").onclick = () => dialog.close();
  root.querySelectorAll(".viewer-step").forEach((button) => {
    button.onclick = () => step(Number(button.dataset.step));
  });
  root.querySelector(".viewer-report").onclick = () => {
    dialog.close();
    report([pictures[index].name]);
  };
  return {
    element: dialog,
    onKey(event) {
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    },
    open(all, position) { pictures = all; show(position); dialog.showModal(); },
  };
}

// Asks what is wrong with images. It stays open, with its text, until the server has stored it.
function makeReport(root, send) {
  const dialog = root.querySelector(".report");
  const reason = root.querySelector(".report-reason");
  const failed = root.querySelector(".report-failed");
  const button = root.querySelector(".report-send");
  let sent = null;
  let timer = 0;

  function fail() {
    failed.hidden = false;
    button.disabled = false;
  }
  root.querySelector(".report-cancel").onclick = () => dialog.close();
  button.onclick = () => {
    failed.hidden = true;
    button.disabled = true;
    sent = { ...sent, id: Date.now(), reason: reason.value };
    timer = setTimeout(fail, REPORT_PATIENCE_MS);
    send(sent);
  };
  return {
    element: dialog,
    open(cell, names, maxLength) {
      sent = { cell, names };
      reason.value = "";
      reason.maxLength = maxLength;
      failed.hidden = true;
      button.disabled = false;
      dialog.showModal();
      reason.focus();
    },
    // Hears the answer of the server; returns the names of images that are reported now.
    hear(outcome) {
      if (!outcome || outcome.id !== sent?.id) return [];
      clearTimeout(timer);
      if (!outcome.stored) {
        fail();
        return [];
      }
      const names = sent.names;
      sent = null;
      dialog.close();
      return names;
    },
  };
}

function drawSet(set, pictures, viewer, offset, texts, onState) {
  const section = document.createElement("section");
  section.className = set.names.length <= 2 ? "set few" : "set";
  if (set.title) {
    const heading = document.createElement("h3");
    heading.textContent = set.title;
    section.append(heading);
  }
  const grid = document.createElement("div");
  grid.className = "grid";
  grid.style.setProperty("--columns", set.columns);
  grid.style.setProperty("--rows", Math.ceil(set.names.length / set.columns));
  set.names.forEach((name, number) => {
    const picture = pictures[offset + number];
    const thumb = document.createElement("button");
    thumb.type = "button";
    thumb.className = "thumb";
    thumb.setAttribute("aria-label", texts.enlarge.replace("{image}", () => picture.label));
    thumb.dataset.failed = texts.failed;
    const image = document.createElement("img");
    image.alt = picture.label;
    image.decoding = "async";
    picture.load = () => loadPicture(image, name, (state) => {
      picture.state = state;
      thumb.classList.toggle("failed", state === "failed");
      onState();
    });
    thumb.onclick = () => {
      if (picture.state === "failed") picture.load();
      else viewer.open(pictures, offset + number);
    };
    thumb.append(image);
    grid.append(thumb);
  });
  section.append(grid);
  return section;
}

function makePage(root) {
  const sets = root.querySelector(".sets");
  const trouble = root.querySelector(".trouble");
  const choices = root.querySelector(".trouble-choices");
  let component = null;
  let drawn = "";
  let drawnAt = 0;
  let pictures = [];
  let given = new Set(); // names of images that the rater reported, or chose to do without
  let told = "";

  const failed = () => pictures.filter((picture) => picture.state === "failed");
  const isSettled = (picture) =>
    picture.state === "loaded" || (picture.state === "failed" && given.has(picture.name));
  const isReady = () => pictures.length > 0 && pictures.every(isSettled);

  const gate = window.evalkitGate;
  const report = makeReport(root, (content) => {
    component.setStateValue("report", content);
    document.querySelector(".st-key-send-report button")?.click();
  });
  const ask = (names) => report.open(component.data.cell, names, component.data.max_reason);
  const viewer = makeViewer(root, ask);
  const ours = {
    isReady: (cell) => isReady() && cell === String(component?.data.cell),
    dialogs: [viewer, report],
  };
  gate.enter(ours);

  root.querySelector(".trouble-again").onclick = () => failed().forEach((each) => each.load());
  root.querySelector(".trouble-report").onclick = () => ask(failed().map((each) => each.name));
  root.querySelector(".trouble-skip").onclick = () => {
    failed().forEach((each) => given.add(each.name));
    follow();
  };

  // Says what the images do, and tells the server once they are all there or given up.
  function follow() {
    const missing = failed();
    const isLoading = pictures.some((picture) => picture.state === "loading");
    const texts = component.data.texts;
    const text = missing.length ? texts.missing.replace("{number}", missing.length) : texts.loading;
    trouble.querySelector(".trouble-text").textContent = text;
    choices.hidden = !missing.length || isReady();
    const isQuick = isLoading && performance.now() - drawnAt < QUIET_MS;
    trouble.hidden = isQuick || (isReady() && !missing.length);
    if (isQuick) setTimeout(follow, QUIET_MS);
    if (isReady()) {
      const seen = { cell: component.data.cell, missing: missing.length };
      if (told !== JSON.stringify(seen)) {
        told = JSON.stringify(seen);
        const afterMs = Math.round(performance.now() - drawnAt);
        component.setStateValue("seen", { ...seen, after_ms: afterMs });
      }
    }
    gate.look();
  }

  function draw(data) {
    const isNewPage = drawn !== "";
    drawn = JSON.stringify([data.cell, data.sets]);
    drawnAt = performance.now();
    given = new Set();
    told = "";
    putTexts(root, data.texts);
    pictures = data.sets.flatMap((set, setIndex) =>
      set.names.map((name, number) => ({
        name, set: setIndex, label: set.labels[number], state: "loading",
      })));
    sets.classList.toggle("alone", data.sets.length === 1);
    let offset = 0;
    sets.replaceChildren(...data.sets.map((set) => {
      const section = drawSet(set, pictures, viewer, offset, data.texts, follow);
      offset += set.names.length;
      return section;
    }));
    pictures.forEach((picture) => picture.load());
    if (isNewPage) document.querySelector('[data-testid="stMain"]')?.scrollTo({ top: 0 });
  }

  return {
    update(next) {
      component = next;
      if (drawn !== JSON.stringify([next.data.cell, next.data.sets])) draw(next.data);
      report.hear(next.data.report).forEach((name) => given.add(name));
      follow();
      // The next page's images go into the browser's cache while this one is looked at.
      root.preloaded = next.data.preload.map((name) => {
        const image = new Image();
        image.src = pictureUrl(name);
        return image;
      });
    },
    leave: () => gate.leave(ours),
  };
}

export default function (component) {
  const root = component.parentElement;
  root.page ??= makePage(root);
  root.page.update(component);
  return () => { root.page?.leave(); root.page = undefined; };
}
