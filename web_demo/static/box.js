// The box that takes words and a picture: chosen, taken, dropped or pasted, made small here, cut where wanted.
const SIDE = 1024; // the longer side of what the server keeps
const SMALL_BYTES = 300_000;

const box = document.querySelector("[data-box]");

/** The picture as a JPEG of at most SIDE pixels; the file itself where it is small, or not read by this browser. */
const shrink = async (file, part) => {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return file;
  }
  const [x, y, width, height] = part ?? [0, 0, bitmap.width, bitmap.height];
  const scale = Math.min(1, SIDE / Math.max(width, height));
  if (!part && scale === 1 && file.size <= SMALL_BYTES) return file;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const paint = canvas.getContext("2d");
  paint.fillStyle = "white";
  paint.fillRect(0, 0, canvas.width, canvas.height);
  paint.imageSmoothingQuality = "high";
  paint.drawImage(bitmap, x, y, width, height, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  return blob ? new File([blob], "picture.jpg", { type: "image/jpeg" }) : file;
};

const setUp = () => {
  const input = box.elements.picture;
  const words = box.elements.x;
  const chosen = box.querySelector(".chosen");
  const preview = chosen.querySelector("img");
  const trouble = box.querySelector(".trouble");
  let original = null;
  let preparing = null;

  const say = (text) => {
    trouble.textContent = text;
    trouble.hidden = !text;
  };
  const unchoose = () => {
    input.value = "";
    original = null;
    chosen.hidden = true;
    URL.revokeObjectURL(preview.src);
    preview.removeAttribute("src");
  };
  const use = async (file, part) => {
    const small = await shrink(file, part);
    if (small.size > Number(box.dataset.maxBytes)) {
      unchoose();
      say(box.dataset.tooLarge);
      return;
    }
    const carried = new DataTransfer();
    carried.items.add(small);
    input.files = carried.files;
    URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(small);
    chosen.hidden = false;
    words.focus();
  };
  const prepare = (work) => {
    preparing = work.finally(() => (preparing = null));
  };
  const choose = (files) => {
    const file = [...files].find((one) => one.type.startsWith("image/") || !one.type);
    say(files.length && !file ? box.dataset.noPicture : "");
    if (!file) return false;
    original = file;
    prepare(use(file));
    return true;
  };

  input.addEventListener("change", () => choose(input.files) || unchoose());
  box.querySelector("[data-unchoose]").addEventListener("click", () => {
    unchoose();
    words.focus();
  });
  box.addEventListener("submit", async (event) => {
    if (!words.value.trim() && !input.files.length) {
      event.preventDefault();
      words.focus();
      return;
    }
    if (!preparing) return;
    event.preventDefault();
    await preparing;
    if (trouble.hidden) box.requestSubmit();
  });

  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    document.body.classList.remove("dropping");
    choose(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) choose(event.clipboardData.files);
  });

  // --- a part of the picture ----------------------------------------------------------------------------------
  const cropper = box.querySelector(".cropper");
  const canvas = cropper.querySelector("canvas");
  let frame = null; // x, y, width, height in pixels of the canvas
  let shown = null;
  const draw = () => {
    const paint = canvas.getContext("2d");
    paint.drawImage(shown, 0, 0, canvas.width, canvas.height);
    if (!frame) return;
    paint.fillStyle = "rgb(0 0 0 / .5)";
    paint.beginPath();
    paint.rect(0, 0, canvas.width, canvas.height);
    paint.rect(...frame);
    paint.fill("evenodd");
  };
  const at = (event) => {
    const place = canvas.getBoundingClientRect();
    return [
      Math.min(Math.max(0, (event.clientX - place.left) * (canvas.width / place.width)), canvas.width),
      Math.min(Math.max(0, (event.clientY - place.top) * (canvas.height / place.height)), canvas.height),
    ];
  };
  box.querySelector("[data-crop]").addEventListener("click", async () => {
    shown = await createImageBitmap(original, { imageOrientation: "from-image" }).catch(() => null);
    if (!shown) return say(box.dataset.noPicture);
    const scale = Math.min(1, 900 / Math.max(shown.width, shown.height));
    canvas.width = Math.max(1, Math.round(shown.width * scale));
    canvas.height = Math.max(1, Math.round(shown.height * scale));
    frame = null;
    draw();
    cropper.showModal();
  });
  let began = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    began = at(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!began) return;
    const [x, y] = at(event);
    frame = [Math.min(x, began[0]), Math.min(y, began[1]), Math.abs(x - began[0]), Math.abs(y - began[1])];
    draw();
  });
  canvas.addEventListener("pointerup", () => (began = null));
  cropper.querySelector("[data-done]").addEventListener("click", () => {
    const whole = !frame || frame[2] < 8 || frame[3] < 8;
    const scale = shown.width / canvas.width;
    prepare(use(original, whole ? null : frame.map((value) => Math.round(value * scale))));
    cropper.close();
  });
  cropper.querySelector("[data-cancel]").addEventListener("click", () => cropper.close());
};
if (box) setUp();
