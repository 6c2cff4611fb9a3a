/* XNNPACK as an external delegate's library, for tests: the delegate is real, that of tflite-runtime's wheel, whose
 * extension module exports the functions of xnnpack_delegate.h. WRAPPER is that module's path. */

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

/* TfLiteXNNPackDelegateOptions, with room for the members that are not used here. */
typedef struct {
  int32_t num_threads;
  uint32_t flags;
  char others[120];
} Options;

enum { QS8 = 1, QU8 = 2 }; /* TFLITE_XNNPACK_DELEGATE_FLAG_...: quantised operators, too */

static void *symbol(const char *name) {
  void *module = dlopen(WRAPPER, RTLD_LAZY | RTLD_LOCAL);
  return module ? dlsym(module, name) : NULL;
}

void *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  (void)values;
  if (count) {
    report(keys[0]);
    return NULL;
  }
  Options (*defaults)(void) = (Options(*)(void))symbol("TfLiteXNNPackDelegateOptionsDefault");
  void *(*create)(const Options *) = (void *(*)(const Options *))symbol("TfLiteXNNPackDelegateCreate");
  if (!defaults || !create) {
    report("the module exports no XNNPACK");
    return NULL;
  }
  Options options = defaults();
  options.flags |= QS8 | QU8;
  return create(&options);
}

void tflite_plugin_destroy_delegate(void *delegate) {
  void (*destroy)(void *) = (void (*)(void *))symbol("TfLiteXNNPackDelegateDelete");
  if (destroy) destroy(delegate);
}
