// Draws the sets of images, enlarges them, loads the next page's images ahead, reports an image.
// The server sends blind names only; a picture is served at picture/NAME. All words come with the data.

const RETRIES = 4;

function pictureUrl(name) {
  return new URL("picture/" + encodeURIComponent(name), document.baseURI).href;
}

function loadPicture(image, name, thumb) {
  let attempt = 0;
  image.onerror = () => {
    attempt += 1;
    if (attempt > RETRIES) {
      thumb?.classList.add("failed");
      return;
    }
    setTimeout(() => { image.src = pictureUrl(name); }, 400 * 2 ** attempt);
  };
  image.onload = () => thumb?.classList.remove("failed");
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
    loadPicture(image, picture.name, null);
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
  root.querySelector(".viewer-report").onclick = () => { dialog.close(); report(index); };
  dialog.onkeydown = (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
    // The answer keys belong to the page below, which can't be seen now.
    if (event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
  };
  return { open(all, position) { pictures = all; show(position); dialog.showModal(); } };
}

function drawSet(set, pictures, viewer, offset, texts) {
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
    const label = pictures[offset + number].label;
    const thumb = document.createElement("button");
    thumb.type = "button";
    thumb.className = "thumb";
    thumb.setAttribute("aria-label", texts.enlarge.replace("{image}", () => label));
    thumb.dataset.failed = texts.failed;
    const image = document.createElement("img");
    image.alt = label;
    image.decoding = "async";
    loadPicture(image, name, thumb);
    thumb.onclick = () => {
      if (thumb.classList.contains("failed")) loadPicture(image, name, thumb);
      else viewer.open(pictures, offset + number);
    };
    thumb.append(image);
    grid.append(thumb);
  });
  section.append(grid);
  return section;
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement;
  const sets = root.querySelector(".sets");
  const drawn = JSON.stringify(data.sets);
  if (sets.dataset.drawn !== drawn) {
    const isNewPage = sets.dataset.drawn !== undefined;
    sets.dataset.drawn = drawn;
    putTexts(root, data.texts);
    const viewer = makeViewer(root, (index) => setTriggerValue("report", index));
    const pictures = data.sets.flatMap((set, setIndex) =>
      set.names.map((name, number) => ({
        name, set: setIndex, label: set.labels[number],
      })));
    sets.classList.toggle("alone", data.sets.length === 1);
    let offset = 0;
    sets.replaceChildren(...data.sets.map((set) => {
      const section = drawSet(set, pictures, viewer, offset, data.texts);
      offset += set.names.length;
      return section;
    }));
    if (isNewPage) document.querySelector('[data-testid="stMain"]')?.scrollTo({ top: 0 });
  }
  // The next page's images go into the browser's cache while this one is looked at.
  const ahead = data.preload.map((name) => { const image = new Image(); image.src = pictureUrl(name); return image; });
  root.preloaded = ahead;
}
