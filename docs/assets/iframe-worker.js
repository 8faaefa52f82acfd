// Search in pages that are opened from disk. Browsers refuse to start a worker from a file, so this runs the worker's script in a hidden frame.
(() => {
  if (location.protocol !== "file:") return;

  const inFrame = () => {
    const page = parent;
    window.postMessage = (data) => page.postMessage({ visusWorker: window.name, data }, "*");
    window.importScripts = async (...addresses) => {
      for (const address of addresses) {
        await new Promise((loaded, failed) => {
          const script = Object.assign(document.createElement("script"), { src: address, onload: loaded, onerror: failed });
          document.body.append(script);
        });
      }
    };
  };

  let count = 0;
  window.Worker = class FrameWorker extends EventTarget {
    constructor(address) {
      super();
      this.name = `visus-worker-${count++}`;
      this.frame = Object.assign(document.createElement("iframe"), { hidden: true, name: this.name });
      document.body.append(this.frame);
      const target = this.frame.contentWindow;
      const source = document.createElement("script");
      source.src = new URL(address, location.href).href;
      const start = `<script>(${inFrame})()</` + "script>";
      target.document.open();
      target.document.write(`<html><body>${start}${source.outerHTML}</body></html>`);
      this.ready = new Promise((loaded) => target.addEventListener("load", loaded, { once: true }));
      target.document.close();
      this.receive = ({ data }) => {
        if (data && data.visusWorker === this.name) {
          this.dispatchEvent(new MessageEvent("message", { data: data.data }));
        }
      };
      window.addEventListener("message", this.receive);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) })));
    }

    terminate() {
      window.removeEventListener("message", this.receive);
      this.frame.remove();
    }
  };
})();
