/* XNNPACK as an external delegate's library, for tests: the delegate is real, that of tflite-runtime's wheel, whose
 * extension module exports the functions of xnnpack_delegate.h. WRAPPER is that module's path. */

#include <dlfcn.h>
#include <stddef.h>

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
  void *(*create)(const void *) = (void *(*)(const void *))symbol("TfLiteXNNPackDelegateCreate");
  if (!create) {
    report("the module exports no XNNPACK");
    return NULL;
  }
  return create(NULL); /* NULL: its own options */
}

void tflite_plugin_destroy_delegate(void *delegate) {
  void (*destroy)(void *) = (void (*)(void *))symbol("TfLiteXNNPackDelegateDelete");
  if (destroy) destroy(delegate);
}
